"""What is found out about an image of a dataset: statistics, thumbnails, duplicates, problems."""
