"""What policies write, and what models say of it.

rollout     responses -> scores -> rewards -> advantages
scoring     texts sampled and scored in batches
writing     what a policy writes for given prompts, and how far it has moved
self_check  what must hold before PPO starts
"""
