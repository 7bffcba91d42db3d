"""Right calls of every public name, by group; see ``target``."""
