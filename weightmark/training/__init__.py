"""What needs PyTorch: loss on a text, fine-tuning as an attack, and the training halves of published marks.

The one room where torch may be imported (extra `torch`). Nothing else imports its modules but functions that were asked
for exactly this, when they run.
"""
