"""What is done to marked weights: by converters, trainers and mergers without intent, and by thieves with it."""
