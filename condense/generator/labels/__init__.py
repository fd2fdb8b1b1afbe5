"""What is believed of the labels, and the models of the labels behind it."""
