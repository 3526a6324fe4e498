"""What the operator wants: policy groups, the choice among them, and what follows when encryption fails."""
