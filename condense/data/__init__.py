"""Sources of images, and the information on their labels."""
