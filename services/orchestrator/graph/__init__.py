"""The inference graph: everything between a question with its moment and an answer with its citations."""
