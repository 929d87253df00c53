"""Each loss a second time: plain loops over NumPy float64, written from the equations.

Slow and literal on purpose, and sharing nothing with the package.
"""

import math

import numpy as np


def softmax_logs(logits):
    top = max(logits)
    total = math.fsum(math.exp(z - top) for z in logits)
    return [z - top - math.log(total) for z in logits]


def per_item(function, *arrays):
    """function(*items) at every index of the first array's shape."""
    out = np.zeros(arrays[0].shape)
    for index in np.ndindex(out.shape):
        out[index] = function(*(array[index] for array in arrays))
    return out


def log_sigmoid(x):
    return -math.log1p(math.exp(-x)) if x > 0 else x - math.log1p(math.exp(x))


def token_logprobs(logits, tokens):
    return per_item(lambda y, z: softmax_logs(z)[y], tokens, logits)


def next_token_logprobs(logits, tokens):
    return token_logprobs(logits[:, :-1], tokens[:, 1:])


def entropy(logits):
    def one(index):
        return -sum(math.exp(lp) * lp for lp in softmax_logs(logits[index]))

    out = np.zeros(logits.shape[:-1])
    for index in np.ndindex(out.shape):
        out[index] = one(index)
    return out


def exact_kl(logits, ref_logits):
    out = np.zeros(logits.shape[:-1])
    for index in np.ndindex(out.shape):
        ours, theirs = softmax_logs(logits[index]), softmax_logs(ref_logits[index])
        out[index] = sum(
            math.exp(p) * (p - q) for p, q in zip(ours, theirs, strict=True)
        )
    return out


def ranking_loss(scores, ranks, valid):
    out = np.zeros(len(scores))
    for b in range(len(scores)):
        pairs = [
            -log_sigmoid(scores[b, w] - scores[b, ell])
            for w in range(scores.shape[1])
            for ell in range(scores.shape[1])
            if valid[b, w] and valid[b, ell] and ranks[b, w] < ranks[b, ell]
        ]
        out[b] = sum(pairs) / len(pairs) if pairs else 0.0
    return out


def soft_ranking_loss(scores, preferences, pairs):
    out = np.zeros(len(scores))
    for b in range(len(scores)):
        terms = []
        for i, j in np.argwhere(pairs[b]):
            p, margin = preferences[b, i, j], scores[b, i] - scores[b, j]
            terms.append(-p * log_sigmoid(margin) - (1 - p) * log_sigmoid(-margin))
        out[b] = sum(terms) / len(terms) if terms else 0.0
    return out


def pairwise_ranking_loss(chosen, rejected):
    return per_item(lambda w, ell: -log_sigmoid(w - ell), chosen, rejected)


def kl_estimate(logprobs, ref_logprobs, kind):
    formula = {
        "k1": lambda rho: rho,
        "k2": lambda rho: rho * rho / 2,
        "k3": lambda rho: math.exp(-rho) - 1 + rho,
    }[kind]
    return per_item(lambda p, q: formula(p - q), logprobs, ref_logprobs)


def shaped_rewards(scores, logprobs, ref_logprobs, mask, kl_coef):
    out = np.zeros(mask.shape)
    for b in range(len(scores)):
        kept = np.flatnonzero(mask[b])
        for t in kept:
            out[b, t] = -kl_coef * (logprobs[b, t] - ref_logprobs[b, t])
        if kept.size:
            out[b, kept[-1]] += scores[b]
    return out


def generalized_advantages(rewards, values, mask, discount, gae_lambda):
    """The double sum  Â_t = Σ_l (γλ)^l δ_{t+l}  over the real tokens of each row."""
    advantages = np.zeros(rewards.shape)
    for b in range(len(rewards)):
        kept = np.flatnonzero(mask[b])
        v = [*values[b, kept], 0.0]
        r = rewards[b, kept]
        deltas = [r[t] + discount * v[t + 1] - v[t] for t in range(len(kept))]
        for t, place in enumerate(kept):
            advantages[b, place] = sum(
                (discount * gae_lambda) ** (u - t) * deltas[u]
                for u in range(t, len(kept))
            )
    return advantages, np.where(mask, advantages + values, 0.0)


def discounted_returns(rewards, mask, discount):
    out = np.zeros(rewards.shape)
    for b in range(len(rewards)):
        kept = np.flatnonzero(mask[b])
        for t, place in enumerate(kept):
            later = rewards[b, kept[t:]]
            out[b, place] = sum(discount**i * x for i, x in enumerate(later))
    return out


def of_groups(one, scores, valid):
    """one(score, other scores of its prompt), 0 where there are no others."""
    out = np.zeros(scores.shape)
    for p, i in np.argwhere(valid):
        others = [scores[p, j] for j in np.flatnonzero(valid[p]) if j != i]
        out[p, i] = one(scores[p, i], others) if others else 0.0
    return out


def leave_one_out_advantages(scores, valid):
    return of_groups(lambda r, others: r - sum(others) / len(others), scores, valid)


def group_advantages(scores, valid):
    def one(r, others):
        return (r - np.mean([r, *others])) / (np.std([r, *others], ddof=1) + 1e-4)

    return of_groups(one, scores, valid)


def group_advantages_unscaled(scores, valid):
    return of_groups(lambda r, others: r - np.mean([r, *others]), scores, valid)


def clipped_policy_loss(logprobs, old_logprobs, advantages, clip_range):
    def one(new, old, advantage):
        ratio = math.exp(new - old)
        clipped = min(max(ratio, 1 - clip_range), 1 + clip_range)
        return -min(ratio * advantage, clipped * advantage)

    return per_item(one, logprobs, old_logprobs, advantages)


def clipped_value_loss(values, old_values, returns, clip_range):
    def one(value, old, target):
        clipped = min(max(value, old - clip_range), old + clip_range)
        return max((value - target) ** 2, (clipped - target) ** 2) / 2

    return per_item(one, values, old_values, returns)


def dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta):
    def one(c, r, rc, rr):
        return -log_sigmoid(beta * ((c - rc) - (r - rr)))

    return per_item(one, chosen, rejected, ref_chosen, ref_rejected)


def noisy_dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta, flipped, robust):
    as_labelled = dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta)
    turned = dpo_loss(rejected, chosen, ref_rejected, ref_chosen, beta)
    if robust:
        return ((1 - flipped) * as_labelled - flipped * turned) / (1 - 2 * flipped)
    return (1 - flipped) * as_labelled + flipped * turned


def ipo_loss(chosen, rejected, ref_chosen, ref_rejected, beta):
    def one(c, r, rc, rr):
        return ((c + rr) - (r + rc) - 0.5 / beta) ** 2

    return per_item(one, chosen, rejected, ref_chosen, ref_rejected)


def kto_loss(
    logprobs,
    ref_logprobs,
    desirable,
    beta,
    kl_baseline,
    desirable_weight,
    undesirable_weight,
):
    def one(logprob, ref_logprob, good):
        gain = beta * (logprob - ref_logprob - kl_baseline)
        if good:
            return desirable_weight * (1 - math.exp(log_sigmoid(gain)))
        return undesirable_weight * (1 - math.exp(log_sigmoid(-gain)))

    return per_item(one, logprobs, ref_logprobs, desirable)


def simpo_loss(chosen, rejected, beta, margin):
    return per_item(
        lambda w, ell: -log_sigmoid(beta * w - beta * ell - margin), chosen, rejected
    )


def orpo_loss(chosen, rejected, odds_weight):
    def odds(logprob):
        return math.exp(logprob) / -math.expm1(logprob)

    def one(w, ell):
        ratio = odds(w) / odds(ell)
        return -w - odds_weight * log_sigmoid(math.log(ratio))

    return per_item(one, chosen, rejected)


def ensemble(scores, variance_coef):
    """(mean, min, mean - variance_coef · variance) of each row of [B, E]."""
    means = [sum(row) / len(row) for row in scores]
    spreads = [
        sum((s - mean) ** 2 for s in row) / len(row)
        for row, mean in zip(scores, means, strict=True)
    ]
    uncertain = [m - variance_coef * v for m, v in zip(means, spreads, strict=True)]
    return np.array(means), np.array([min(row) for row in scores]), np.array(uncertain)


def projected(hidden, unembedding, bias, soft_cap, temperature):
    out = np.zeros((*hidden.shape[:-1], len(unembedding)))
    for index in np.ndindex(out.shape):
        *place, word = index
        logit = float(np.dot(hidden[tuple(place)], unembedding[word])) + bias[word]
        out[index] = soft_cap * math.tanh(logit / soft_cap) / temperature
    return out


def best_of_n(proxy, gold, n):
    """The mean over every way to choose n samples."""
    import itertools

    picks = itertools.combinations(range(len(proxy)), n)
    return np.mean([gold[max(pick, key=lambda i: proxy[i])] for pick in picks])
