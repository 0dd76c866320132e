"""From scores to a comparison that can be read: who is better than whom, how sure that is, what the
answers look like."""
