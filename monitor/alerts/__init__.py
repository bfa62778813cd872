"""When what was found becomes an alert, and when it is over."""
