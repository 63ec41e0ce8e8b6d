"""Results: raw trials as they were measured, and everything that is computed from them (pure)."""
