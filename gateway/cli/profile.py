"""List, show and test device profiles."""
EXAMPLES = ""
