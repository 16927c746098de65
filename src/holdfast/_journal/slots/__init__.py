"""The journal where nothing can be appended: numbered slots, each created once with one put-if-absent."""
