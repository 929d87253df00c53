"""The paper's automatic evaluations.

catalogue, runs, settings  suites by name, from files or the hub; what may be chosen
files              rows with the place of everything that is wrong
prompts, tasks     instructions, few-shot layouts, generated and chosen answers
reading            F1 of SQuADv2, DROP, QuAC (squad, drop, quac read the files)
choice, wsc        HellaSwag, RTE, SST; Winograd schemas
translation        WMT15 French to English, BLEU
summarization      CNN/DM and TL;DR, ROUGE-L
truthfulness       TruthfulQA
toxicity, bias     RealToxicityPrompts; Winogender and CrowS-Pairs
hallucination      closed-domain inventions
samples            outputs that exist already
world              all of it on the embedded world
public             the public NLP tasks, zero- and few-shot
harness            a policy for lm-evaluation-harness
"""
