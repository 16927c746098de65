"""What runs beside the user's code: one worker process. It is light, and knows no controller and no journal."""
