// Filled by the commit that makes this target.
