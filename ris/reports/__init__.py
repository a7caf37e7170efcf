"""Reports: from the first draft to what was signed, corrected, addended or taken back."""
