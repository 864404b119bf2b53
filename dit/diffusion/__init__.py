"""Processes: how data becomes noise, what a network predicts, and at which times it is trained.

Time runs from t=0 (data) to t=1 (noise): x_t = alpha_t x_0 + sigma_t eps, eps ~ N(0, I).
A process is a schedule (alpha_t, sigma_t), a prediction (a x_0 + b eps) and a time law (the distribution of t).
"""
