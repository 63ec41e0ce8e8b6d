"""Which requests: sources of prompts as token ids, made once, the same for every engine."""
