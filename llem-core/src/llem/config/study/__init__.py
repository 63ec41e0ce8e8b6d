"""The syntax of a study: axes, ranges, exclusions, order."""
