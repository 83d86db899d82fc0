from hypothesis import settings

# A property is right or wrong; how long an example takes on a busy machine says nothing about it.
settings.register_profile("batchyard", deadline=None)
settings.load_profile("batchyard")
