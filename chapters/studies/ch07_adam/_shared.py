"""Chapter 7, Adam itself: its steps, its bias correction, its relatives and its extensions (thesis 7.1-7.4, 7.6).

How far can a step go, what do the corrections correct, and which optimizer should one choose?
"""

# %% [markdown]
# Algorithm 6, for each number of theta by itself, with g the gradient at step t = 1, 2, ...:
#
#     m = beta1 m + (1 - beta1) g             m_hat = m / (1 - beta1^t)         running mean of g, from 0
#     v = beta2 v + (1 - beta2) g^2           v_hat = v / (1 - beta2^t)         running mean of g^2, from 0
#     theta = theta - alpha m_hat / (sqrt(v_hat) + eps)
#
# and Algorithm 7 (AdaMax), whose denominator is a running maximum (eq. 7.11):
#
#     u = max(beta2 u, |g|)                   theta = theta - alpha / (1 - beta1^t) m / u
#
# The experiments use `minivi.optim` itself; the checks hold it against the algorithms line by line.

# %%
import numpy as np

from minivi.tensor import Parameter

TINY = 1e-300  # an eps that is as good as the 0 that section 7.2.1 assumes


def steps_of(new_optimizer, gradients):
    """What an optimizer subtracts at each step: gradients (T, ...), each number by itself -> (T, ...).

    The parameter is put back to 0 each time, so that no step is rounded away.
    """
    p = Parameter(np.zeros(gradients.shape[1:]))
    optimizer, steps = new_optimizer([p]), np.empty(gradients.shape)
    for i, g in enumerate(gradients):
        optimizer.step([g])
        steps[i] = -p.data
        p.assign(np.zeros(p.shape))
    return steps
