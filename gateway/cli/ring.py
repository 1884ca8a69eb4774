"""(coming)"""

EXAMPLES = ""
