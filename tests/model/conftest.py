"""How much properties are tried."""

import hypothesis

hypothesis.settings.register_profile("lso", deadline=None, max_examples=50)  # deadlines measure the machine's load
hypothesis.settings.load_profile("lso")
