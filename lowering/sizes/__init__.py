"""The one language of sizes: expressions of symbols, parsed, evaluated, bounded, compared and printed."""
