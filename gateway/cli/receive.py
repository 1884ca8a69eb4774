"""(coming)"""
EXAMPLES = ""
