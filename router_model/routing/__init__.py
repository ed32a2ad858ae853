"""From a prompt's features and the state of every service to one service, with reasons."""
