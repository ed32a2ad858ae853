"""routebench: how well does the shipped router choose, on questions nobody trained on (`make routebench`).

Fixed suites, fixed metrics, baselines trained in the same run, paired bootstrap over questions. docs/routebench.md says
how to read it.
"""
