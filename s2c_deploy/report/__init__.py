"""Tables, pages, plots and environment: what evaluation and bench share."""
