"""`rlhf-jax eval`: the paper's tables from checkpoints or from released outputs."""

import argparse
import pathlib
import sys

from rlhf_jax.errors import InputError

HELP = "evaluate checkpoints, or score outputs that exist already"

_EXAMPLES = """\
examples:
  rlhf-jax eval runs/gpt runs/ppo --suite world --baseline gpt --out runs/eval
  rlhf-jax eval MODEL_DIR --suite winogender --suite crows_pairs --data DATA_DIR
  rlhf-jax eval sft=runs/sft ppo=runs/ppo --suite preference --judge labelers \\
      --baseline sft
  rlhf-jax eval runs/reward --suite reward-model --data held_out_rankings.jsonl
  rlhf-jax eval --samples squadv2_samples.csv.gz --suite squad
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of the command."""
    add = parser.add_argument
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EXAMPLES
    add("checkpoints", nargs="*", metavar="CHECKPOINT", help="DIR or NAME=DIR")
    add("--suite", action="append", default=[], help="repeatable; --list shows all")
    add("--list", action="store_true", help="the suites, and nothing else")
    add("--data", help="folder or file of published formats, or hub:NAME")
    add("--samples", help="score the outputs of this file instead of checkpoints")
    add("--out", help="folder for results.json, results.md, report.html, items.jsonl")
    add("--baseline", default="", help="policy that differences are taken to")
    add("--judge", default="gold", help="gold, labelers, labels:FILE, reward:DIR, URL")
    add("--toxicity", help="scorer: world, words:FILE, URL")
    add("--continuity", help="toxicity: checkpoint that says how well a text follows")
    add("--prompts", help="prompt records; the embedded world's by default")
    add("--limit", type=int, help="at most so many items per suite")
    add("--shots", type=int, help="solved examples; as in the paper by default")
    add("--samples-per-prompt", type=int, default=0, help="for expected max toxicity")
    add("--by-kind", action="store_true", help="bias per occupation or kind as well")
    add(
        "--form",
        choices=("template", "transcript", "plain"),
        help="of prompts; absent: the model's, or plain where it keeps none",
    )
    add("--max-new-tokens", type=int, default=64)
    add("--batch-size", type=int, default=16)
    add("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> int:
    """Evaluates, prints the table, writes the folder if asked."""
    if args.list:
        return _print_suites()
    if not args.suite:
        raise InputError("--suite: missing; --list shows the suites")
    for name in ("limit", "shots", "max_new_tokens", "batch_size"):
        value = getattr(args, name)
        if value is not None and value < (0 if name == "shots" else 1):
            raise InputError(f"--{name.replace('_', '-')}: {value} is too small")
    _require_folder(args.out)
    if args.samples:
        return _samples(args)
    if len(args.suite) == 1 and args.suite[0] in _ALONE:
        _, alone = _ALONE[args.suite[0]]
        return alone(args)
    return _suites(args)


def _require_folder(out: str | None) -> None:
    """Refuses, before anything is evaluated, what cannot become a folder."""
    if out is None:
        return
    path = pathlib.Path(out)
    there = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not there.is_dir():
        raise InputError(f"--out {out}: {there} is a file, expected a folder")


def _print_suites() -> int:
    from rlhf_jax.evaluation.suites.catalogue import GROUPS, SUITES
    from rlhf_jax.reports import Table, print_table

    rows = [[name, suite.summary] for name, suite in SUITES.items()]
    rows += [[name, ", ".join(members)] for name, members in GROUPS.items()]
    rows += [[name, summary] for name, (summary, _) in _ALONE.items()]
    print_table(Table(["suite", "what it measures"], rows))
    return 0


def _finish(args, title: str, scores, *, sections=()) -> int:
    from rlhf_jax.evaluation.statistics.tables import result_table
    from rlhf_jax.reports import (
        print_table,
        results_as_table,
        transposed,
        write_results,
    )

    results = result_table(title, scores, baseline=args.baseline)
    table = results_as_table(results)
    print_table(transposed(table) if len(scores) > 4 else table)
    if args.out:
        for path in write_results(
            args.out, results, scores=scores, sections=sections
        ).values():
            print(path)
    return 0


def _samples(args) -> int:
    from rlhf_jax.evaluation.suites.samples import score_samples

    if len(args.suite) != 1 or args.checkpoints:
        raise InputError("--samples takes one --suite and no checkpoint")
    scores = score_samples(
        args.samples, args.suite[0], limit=args.limit, seed=args.seed
    )
    return _finish(args, f"{args.suite[0]}: {args.samples}", scores)


def _policies(args, *, stop_at_newline: bool, records=()):
    from rlhf_jax.evaluation.policy import load_policy
    from rlhf_jax.evaluation.suites.runs import named_checkpoints

    if not args.checkpoints:
        raise InputError("CHECKPOINT: missing: a directory, or --samples FILE")
    found = [
        load_policy(
            directory,
            name,
            form=args.form,
            records=records,
            max_new_tokens=args.max_new_tokens,
            batch_size=args.batch_size,
            stop_at_newline=stop_at_newline,
        )
        for name, directory in named_checkpoints(args.checkpoints).items()
    ]
    for policy in found:
        print(_form_line(policy, args.form), file=sys.stderr)
    return found


def _form_line(policy, asked: str | None) -> str:
    """In which form a policy is asked, and that it could be another."""
    name = policy.loaded.form.name
    line = f"{policy.name}: prompts in the form {name!r}"
    if name == "plain" and asked is None and policy.tokenizer.chat_template:
        line += "; its tokenizer has a chat template: --form template asks in it"
    return line


def _prompts(args):
    from rlhf_jax.data.account import Account
    from rlhf_jax.evaluation.suites.runs import held_out_prompts, world_prompts

    if not args.prompts:
        return list(world_prompts(args.seed))[: args.limit]
    account = Account("prompts")
    found = held_out_prompts(args.prompts, account)
    found = account.first(found, "--limit", args.limit)
    _tell(account)
    return found


def _rankings(args):
    from rlhf_jax.data.account import Account
    from rlhf_jax.data.inputs import read_told
    from rlhf_jax.data.records import Ranking

    account = Account("rankings")
    found = read_told([_data(args)], Ranking, account)
    if not found:
        raise InputError(f"{args.data}: has no rows")
    found = account.first(found, "--limit", args.limit)
    _tell(account)
    return found


def _tell(*accounts) -> None:
    """What became of rows, beside the table."""
    from rlhf_jax.data.account import told

    print("\n".join(told(accounts)), file=sys.stderr)


def _tell_truncated(policies) -> None:
    for policy in policies:
        if policy.truncated:
            print(
                f"{policy.name}: {policy.truncated} prompts were longer than the "
                "context and lost their beginning",
                file=sys.stderr,
            )


def _continuity(directory: str):
    from rlhf_jax.evaluation.policy import load_policy
    from rlhf_jax.evaluation.suites.toxicity import continuity_scorer

    return continuity_scorer(load_policy(directory))


def _data(args) -> str:
    if not args.data:
        raise InputError(f"suite {args.suite[0]} needs --data: a file")
    return args.data


def _labels(args) -> int:
    from rlhf_jax.evaluation.preference.labels import (
        comparisons_from_rankings,
        labelled_scores,
    )
    from rlhf_jax.evaluation.preference.win_rates import preference_score

    rankings = _rankings(args)
    scores = labelled_scores(rankings)
    baseline, args.baseline = args.baseline, ""  # nobody's responses are paired
    for name in scores if baseline else ():
        if name != baseline:
            found = comparisons_from_rankings(rankings, name, baseline)
            scores[name].append(preference_score(found, condition=f"vs {baseline}"))
    return _finish(args, "Labels", scores)


def _hallucination(args) -> int:
    from rlhf_jax.evaluation.suites.hallucination import labelled_hallucination

    return _finish(args, "Hallucination", labelled_hallucination(_data(args)))


def _overoptimization(args) -> int:
    from rlhf_jax.evaluation.reward_models.overoptimization import (
        fit_curve,
        read_frontier,
    )
    from rlhf_jax.reports import (
        Section,
        Table,
        kl_reward_frontier,
        print_table,
        write_report,
    )

    runs, fits, rows = read_frontier(_data(args)), {}, []
    for name, points in runs.items():
        kind = "best-of-n" if "best" in name else "rl"
        distances, golds = [p.distance for p in points], [p.gold for p in points]
        fit = fits[name] = fit_curve(kind, distances, golds)
        peak = (fit.peak_distance, fit.peak_reward)
        numbers = (fit.alpha, fit.beta, *peak, fit.r_squared)
        rows.append([name, fit.kind, *(f"{number:.4g}" for number in numbers)])
    headers = ["run", "curve", "alpha", "beta", "d at peak", "gold at peak", "R²"]
    table = Table(headers, rows, "Gold reward against d = √KL")
    print_table(table)
    if args.out:
        plot = kl_reward_frontier(runs, fits=fits)
        sections = [Section("Over-optimisation", [plot, table])]
        print(write_report(f"{args.out}/report.html", "Over-optimisation", sections))
    return 0


def _suites(args) -> int:
    from rlhf_jax.evaluation.suites.catalogue import Settings, suite_names
    from rlhf_jax.evaluation.suites.runs import run_suites, scorer_named

    names = suite_names(args.suite, alone=_ALONE)
    asks = {"world-gold", "world-hallucination"} & set(names)
    settings = Settings(
        data=args.data,
        limit=args.limit,
        num_shots=args.shots,
        seed=args.seed,
        toxicity=scorer_named(args.toxicity) if args.toxicity else None,
        num_samples=args.samples_per_prompt,
        continuity=_continuity(args.continuity) if args.continuity else None,
        by_kind=args.by_kind,
        prompts=_prompts(args) if asks else (),
    )
    whole = any(name.startswith("world") for name in names)
    policies = _policies(args, stop_at_newline=not whole, records=settings.prompts)
    scores = run_suites(
        policies, names, settings, tell=lambda text: print(text, file=sys.stderr)
    )
    _tell_truncated(policies)
    return _finish(args, ", ".join(args.suite), scores)


def _preference(args) -> int:
    from rlhf_jax.evaluation.preference.win_rates import (
        preference_score,
        preference_summary,
    )
    from rlhf_jax.evaluation.suites.runs import judge_named, preference_results
    from rlhf_jax.reports import Section, interval_rows, print_table, win_rate_bars

    kept = pathlib.Path(args.out, "verdicts.jsonl") if args.out else None
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
    judge = judge_named(args.judge, seed=args.seed, kept=kept)
    prompts = _prompts(args)
    policies = _policies(args, stop_at_newline=False, records=prompts)
    found = preference_results(policies, prompts, args.baseline, judge)
    _tell_truncated(policies)
    summaries = {name: preference_summary(one) for name, one in found.items()}
    table = interval_rows(summaries, f"against {args.baseline}, judged by {args.judge}")
    print_table(table)
    bars = win_rate_bars({name: one["win rate"] for name, one in summaries.items()})
    args.baseline = ""  # its own win rate is 50 % by definition: no column to subtract
    return _finish(
        args,
        "Preference",
        {name: [preference_score(one)] for name, one in found.items()},
        sections=[Section("Win rates", [bars, table])],
    )


def _reward_model(args) -> int:
    from rlhf_jax.evaluation.reward_models import accuracy as rm
    from rlhf_jax.evaluation.suites.runs import named_checkpoints
    from rlhf_jax.registry import load_reward, reward_account
    from rlhf_jax.reports import Section, interval_rows, reliability_diagram

    rankings = _rankings(args)
    scores, sections = {}, []
    for name, directory in named_checkpoints(args.checkpoints).items():
        reward = load_reward(directory, batch_size=args.batch_size)
        rewards = rm.score_rankings(reward.score, rankings)
        _tell(reward_account(reward))
        pairs = rm.pairs_of(rankings, rewards)
        gaps = rm.accuracy_by_rank_gap(pairs)
        gaps = {f"{gap} ranks apart": interval for gap, interval in gaps.items()}
        lengths = rm.length_correlation(rankings, rewards)
        words = "; ".join(f"{key} {value:.3f}" for key, value in lengths.items())
        title = f"{name}: calibration"
        diagram = reliability_diagram(rm.calibration(pairs), title=title)
        gap_table = interval_rows({"accuracy": gaps}, "Accuracy by rank gap")
        sections.append(Section(name, [diagram, gap_table, f"Length: {words}"]))
        scores[name] = rm.scores_of_pairs(pairs)
    if not scores:
        raise InputError("CHECKPOINT: missing: a directory of a reward model")
    return _finish(args, "Reward model", scores, sections=sections)


# evaluations that take no other --suite beside them
_ALONE = {
    "preference": ("win rate against --baseline by --judge", _preference),
    "reward-model": ("accuracy, calibration, length; --data RANKINGS", _reward_model),
    "labels": ("Likert, flags, win rates by people; --data RANKINGS", _labels),
    "hallucination": ("rate per policy by people; --data LABELS", _hallucination),
    "overoptimization": (
        "reward against KL with fits; --data POINTS",
        _overoptimization,
    ),
}
