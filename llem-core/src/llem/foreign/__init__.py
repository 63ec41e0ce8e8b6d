"""What others wrote, where it enters and where it leaves.

Entering: `files` (regular files alone, no more of them than is asked for), `values` (JSON whose numbers can be computed
with), `secrets` (no key is kept or told). Leaving: `shown` (a terminal finds no commands, a spreadsheet no formulas).
"""
