"""Colours of all pictures and pages, told apart by colour-blind people too."""

# Okabe and Ito's, without those too dark or too light on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK = "#404040"
