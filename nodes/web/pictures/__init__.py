"""Pictures: geometry in Python, drawn by a template as SVG. Nothing here knows HTML."""
