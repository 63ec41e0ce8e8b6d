"""What the user asked for: strict models, loading with provenance, schema, identity."""
