"""Bodies of the OpenAI API: their types, and the checks that types cannot express."""
