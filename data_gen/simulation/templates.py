"""Templates of questions about a simulated story. {x} is a thing, {t} a time."""

WHAT = (
    "What is in this video?",
    "What is in the video?",
    "What does the video show?",
    "What can you see?",
    "What do you see in this clip?",
    "What is this video about?",
    "What appears in the video?",
    "Which things appear in this video?",
    "What is shown here?",
    "What is the main subject?",
    "What object is visible?",
    "Name what you see.",
    "List the things in the video in order.",
    "Tell me what is in the clip.",
    "what's in this",
    "What is it?",
    "What kind of thing is this?",
    "What are we looking at?",
)
DESCRIBE = (
    "Describe the video.",
    "Describe this video.",
    "Describe the video briefly.",
    "Write a caption for this video.",
    "Caption this clip.",
    "Summarize the video.",
    "What happens in this video?",
    "What is going on in the video?",
    "What is happening?",
    "Give a short description.",
    "Tell me about this video.",
    "Can you describe the clip in one sentence?",
)
DENSE = (
    "Describe the video with times.",
    "What is shown at each time?",
    "Give a timeline of the video.",
    "List what is shown and when.",
    "Caption each part of the video with its times.",
    "Describe each part with start and end times.",
)
FIRST = (
    "What appears first?",
    "What comes first?",
    "What is shown at the beginning?",
    "What does the video start with?",
    "How does the video begin?",
    "What is the first thing shown?",
    "Which thing is seen first?",
)
LAST = (
    "What appears last?",
    "What comes last?",
    "What is shown at the end?",
    "What does the video end with?",
    "How does the video end?",
    "What is the last thing shown?",
    "Which thing is seen last?",
)
AFTER = (
    "What comes after the {x}?",
    "What appears after the {x}?",
    "What is shown after the {x}?",
    "What follows the {x}?",
    "After the {x}, what is shown next?",
)
BEFORE = (
    "What comes before the {x}?",
    "What appears before the {x}?",
    "What is shown before the {x}?",
    "What precedes the {x}?",
    "Before the {x}, what is shown?",
)
COUNT = (
    "How many different things are shown?",
    "How many different things appear?",
    "How many things can you see in the video?",
    "Count the different things in the video.",
    "How many different subjects are there?",
)
CHANGE = (
    "Does the scene change?",
    "Does the video change what it shows?",
    "Does the subject change?",
    "Is there a change in the video?",
    "What changes in the video?",
)
PRESENT = (
    "Is there {x} in the video?",
    "Is there {x}?",
    "Does the video show {x}?",
    "Can you see {x}?",
    "Do you see {x} in this clip?",
    "Does {x} appear?",
    "Is {x} visible?",
)
WHEN = (
    "When does the {x} appear?",
    "When is the {x} shown?",
    "At what time can the {x} be seen?",
    "From when to when is the {x} visible?",
    "Where in the video is the {x}?",
)
AT = (
    "What is shown at {t}?",
    "What can be seen at {t}?",
    "What is in the video at {t}?",
    "What appears at {t}?",
)
LENGTH = (
    "How long is the video?",
    "What is the length of the video?",
    "How long does this clip last?",
    "What is the duration?",
)
UNSEEN = (
    "What is the man doing?",
    "What is the woman wearing?",
    "Is anyone smiling?",
    "What color is the {x}?",
    "Why is the {x} there?",
    "How does the person feel?",
    "What is the name of the place?",
    "In which country was this filmed?",
    "What will happen next?",
    "What is the {x} doing?",
    "How big is the {x}?",
    "Is the man happy?",
    "What is the child holding?",
    "What time of day is it?",
    "Which direction does the {x} move?",
    "How much does the {x} cost?",
    "Who made this video?",
    "What is the relationship between the people?",
    "Is the person running or walking?",
    "What brand is it?",
    "How old is the person?",
    "Is the {x} to the left or to the right?",
    "What is behind the {x}?",
)
