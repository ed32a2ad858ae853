"""Pick: from a prompt's features and what is known of every service to one service, with its reasons."""
