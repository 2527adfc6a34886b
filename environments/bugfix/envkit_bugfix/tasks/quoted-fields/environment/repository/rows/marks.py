"""What separates and quotes fields."""

COMMA, QUOTE, NEWLINE = ",", '"', "\n"
