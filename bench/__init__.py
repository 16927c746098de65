"""What holdfast costs, each figure beside its physical limit or a peer that was measured in the same run."""
