"""What finished runs say: tables, the paper's numbers beside them, learning curves and other plots."""
