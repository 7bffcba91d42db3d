"""The page of a server: sliders for λ, a chat, answers side by side, the front, and eight questions."""
