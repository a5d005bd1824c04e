"""What is known of a node beside its inventory, and who may write it."""
