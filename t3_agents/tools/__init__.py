"""The tools, one file each, and the toolboxes that name them."""
