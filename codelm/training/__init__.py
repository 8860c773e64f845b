"""The training loop, its data order, its optimizer and its engines."""
