"""Exercises that grade themselves: tracks of tasks, blanks made from their solutions, a grader in another process.

A track is one file, ``chapters/exercises/solutions/NAME.py``, in ``# %%`` cells. A task is three cells in a row:

    # %% [markdown]
    # ## The running averages
    # What is asked for, with formulas as TeX.

    # %%
    def averages(m, v, g, beta1=0.9, beta2=0.999):
        \"\"\"m and v after the gradient g; arrays of one shape.\"\"\"
        # [solution]
        return beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        # [end]

    # %% [teacher]
    @task("averages", 2, "code", "thesis Algorithm 6", mistakes=[
        ("(1 - beta1) * g,", "g,", "the new gradient has a weight of its own in m"),
        ...                                            # at least five: old text, new text (each of the cell), hint
    ])
    def _(rng):
        m, v, g = rng.normal(size=(3, 4)), ...
        yield Case((m, v, g), expected)                # expected by another way than the solution's

- The kind is "code", "derive" (a number or formula as a function), "predict" (what a run will give, before it is run)
  or "fault" (given code with a fault to find). Of a fault the given code stands, commented out, after ``# [blank]``:

        # [solution]
        return g * y * (1 - y)
        # [blank]
        # return g * (1 - y)
        # [end]

- The blank (``minivi exercise NAME --blank``) has no teacher cells, ``raise NotImplementedError`` or the given code in
  place of a solution, and headings with number, kind, points and equation: write none of these in the heading.
- The grader yields cases from ``rng``, which the teacher's seed makes: arguments, and what is expected of them by
  finite differences, enumeration, a closed form or quadrature. It never calls the student's code itself. Arguments are
  numbers, strings, arrays, lists of them, and functions as ``Source("lambda x: ...")``, whose ``function`` the grader
  can call too. ``Case(..., driver="lambda f, x: ...")`` says how the student's function is called, by default f(*args).
  Results are numbers, strings, None, arrays, and lists, tuples and dicts of these.
- A mistake is code: the cell with a text replaced, which must stand in it once (or ``None`` and a whole cell). A wrong
  submission whose results are those of a mistake, on all cases, gets its hint, however it came to them; so no two
  mistakes may do the same. A hint says where to look and not what to write; the equation is added to it.
- After a change: ``minivi exercise NAME --blank --out chapters/exercises/NAME.py``; ``tests/test_exercises.py`` asks
  that all is so, with ``-m slow`` for many seeds. Tracks are found by their files; the teacher's page is
  ``chapters/exercises/README.md``, whose table has a row for each.
"""

from minivi.exercises.child import Source
from minivi.exercises.grading import Grade, Grader, Row, grade, grade_file, table_of_class
from minivi.exercises.process import Limits, Submission, SubmissionError, read
from minivi.exercises.tracks import Case, ExerciseError, Task, Track, as_notebook, find, names, task
