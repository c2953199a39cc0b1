"""LSO, the Living Systems Observatory: is this system well, how do we know, and since when?"""

__version__ = "0.1.0"
