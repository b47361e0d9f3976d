"""Who acts: one package per OS process, and the tools around them."""
