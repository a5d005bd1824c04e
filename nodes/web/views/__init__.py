"""One file a page or a small family of pages."""
