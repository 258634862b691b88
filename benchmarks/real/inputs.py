"""What the checkpoints are given: sentences and reactions written for this purpose."""

from __future__ import annotations

from itertools import product

__all__ = [
    "AGREEMENT",
    "INTENTS",
    "OTHERS",
    "REACTIONS",
    "SAID",
    "UNSEEN_INTENTS",
    "UNSEEN_REACTIONS",
    "UNSEEN_SAID",
]

INTENTS = (
    "please freeze my bank account because somebody stole my wallet",
    "how many calories are in a bowl of oatmeal with honey",
    "wake me up tomorrow morning at half past six",
    "can you translate good evening into italian for me",
    "what is the exchange rate between euros and yen today",
    "i would like to book a table for four at a thai restaurant",
    "my suitcase did not arrive with the plane from oslo",
    "how long should i roast a chicken that weighs two kilos",
    "remind me to water the plants when i come home",
    "is there heavy traffic on the road to the airport right now",
    "flip a coin to decide who has to wash the dishes",
    "tell me a funny joke about programmers",
    "which vaccines do i need before a journey to kenya",
    "the left front tire of my car is flat and i have a spare one",
    "how much did i spend on groceries last month",
    "play some quiet piano music in the living room",
    "what will the weather be like in lisbon on friday",
    "add milk and two lemons to my shopping list",
    "could you speak a little slower please",
    "how do i say thank you in portuguese",
    "when is the electricity bill due this month",
    "my new credit card has a scratch and the chip no longer works",
    "what is the capital gains tax i have to pay this year",
    "find my phone, i must have left it somewhere in the kitchen",
    "where can i fill up my car with petrol around here",
    "how old are you and who built you",
    "cancel the hotel reservation that i made for saturday",
    "send a message to my sister that i will be ten minutes late",
    "what can i use instead of eggs in a pancake",
    "the pin of my debit card must be changed at once",
    "how far is it from berlin to prague by car",
    "turn the lights in the bedroom off and close the blinds",
    "i want to talk to a real person about this problem",
    "what time is it in melbourne at the moment",
    "how many vacation days do i have left this year",
    "please make the volume of the speaker louder",
    "who sings this song that is playing now",
    "does the train to vienna leave on time this evening",
    "what does the word ephemeral mean",
    "transfer two hundred dollars from savings to checking",
)

UNSEEN_INTENTS = (
    "the cashier said that my card was declined at the supermarket",
    "set a timer for twelve minutes while the pasta boils",
    "i need a cheap flight from dublin to rome in october",
    "how often should the oil in my engine be changed",
    "give me a recipe for onion soup without any cream",
    "spell the word necessary slowly",
    "what is my credit score after the last payment",
    "rent a small van for the weekend in hamburg",
    "is it true that honey never goes bad, tell me something odd",
    "delete the dentist appointment from my calendar",
    "how many inches are there in two metres",
    "where exactly am i standing now",
    "order a large pizza with mushrooms to my flat",
    "which plug do i need for a hair dryer in england",
    "i have not received the parcel that i ordered last week",
    "what documents do i need for a visa to india",
    "read me the list of things that i have to do today",
    "roll two dice for our board game",
    "how do i start a car whose battery is dead",
    "share my location with my brother until midnight",
    "what is the interest rate of my savings account",
    "somebody charged my account twice and i did not buy anything",
    "skip this song and play the next one",
    "can i redeem my reward points for a train ticket",
    "which good restaurants are near the opera",
    "how many miles does my car run on one gallon",
    "i am very angry, nobody has answered my complaint for days",
    "book a meeting room for monday at nine with the whole team",
    "what is the routing number of my bank",
    "thank you so much, that was very helpful",
)

OTHERS = (
    "a person asks a bank for help",
    "somebody plans a journey",
    "food and how to cook it",
    "music, light and machines in a house",
    "a question about time or the calendar",
    "a car that needs repair",
)
"""What each sentence is compared with."""

REACTIONS = (
    "CC(=O)Cl.NCc1ccccc1>>CC(=O)NCc1ccccc1",
    "CC(=O)O.OCC>>CC(=O)OCC",
    "Brc1ccccc1.OB(O)c1ccccc1>>c1ccc(-c2ccccc2)cc1",
    "CC(=O)c1ccccc1>>CC(O)c1ccccc1",
    "O=[N+]([O-])c1ccccc1>>Nc1ccccc1",
    "CC(C)(C)OC(=O)NCc1ccccc1>>NCc1ccccc1",
    "COC(=O)c1ccccc1>>O=C(O)c1ccccc1",
    "OCc1ccccc1>>O=Cc1ccccc1",
    "O=C(O)c1ccccc1.CCN>>CCNC(=O)c1ccccc1",
    "CS(=O)(=O)Cl.Nc1ccccc1>>CS(=O)(=O)Nc1ccccc1",
    "Oc1ccccc1.CI>>COc1ccccc1",
    "Nc1ccccc1.O=C=Nc1ccccc1>>O=C(Nc1ccccc1)Nc1ccccc1",
    "c1ccccc1.BrBr>>Brc1ccccc1",
    "O=Cc1ccccc1.NCC>>CCNCc1ccccc1",
    "N#Cc1ccccc1>>NCc1ccccc1",
    "CC(C)(C)OC(=O)OC(=O)OC(C)(C)C.NCCc1ccccc1>>CC(C)(C)OC(=O)NCCc1ccccc1",
    "OCCc1ccccc1.CS(=O)(=O)Cl>>CS(=O)(=O)OCCc1ccccc1",
    "Clc1ncccn1.NCc1ccccc1>>c1ccc(CNc2ncccn2)cc1",
    "C=Cc1ccccc1>>CCc1ccccc1",
    "BrCc1ccccc1.N1CCOCC1>>C1COCCN1Cc1ccccc1",
    "O=C(O)CCc1ccccc1>>OCCCc1ccccc1",
    "CSc1ccccc1>>CS(=O)c1ccccc1",
    "Brc1ccncc1.C#Cc1ccccc1>>C(#Cc1ccncc1)c1ccccc1",
    "COc1ccccc1>>Oc1ccccc1",
)

UNSEEN_REACTIONS = (
    "O=C(Cl)c1ccco1.C1CCNCC1>>O=C(c1ccco1)N1CCCCC1",
    "OB(O)c1ccc(F)cc1.Brc1cccnc1>>Fc1ccc(-c2cccnc2)cc1",
    "O=[N+]([O-])c1ccc(Cl)cc1>>Nc1ccc(Cl)cc1",
    "CCOC(=O)Cc1ccccc1>>O=C(O)Cc1ccccc1",
    "CC(C)(C)OC(=O)N1CCC(O)CC1>>OC1CCNCC1",
    "O=C1CCCCC1>>OC1CCCCC1",
    "CCO.O=C(O)c1ccncc1>>CCOC(=O)c1ccncc1",
    "Fc1ccc(Br)cc1.C1COCCN1>>Fc1ccc(N2CCOCC2)cc1",
    "OC1CCCCC1>>O=C1CCCCC1",
    "CC(=O)OC(C)=O.Nc1ccc(O)cc1>>CC(=O)Nc1ccc(O)cc1",
    "O=S(=O)(Cl)c1ccccc1.NCCO>>O=S(=O)(NCCO)c1ccccc1",
    "N#Cc1ccc(F)cc1>>NCc1ccc(F)cc1",
    "Oc1ccc(Cl)cc1.BrCc1ccccc1>>Clc1ccc(OCc2ccccc2)cc1",
    "O=Cc1cccs1.C1CCNC1>>c1csc(CN2CCCC2)c1",
    "COC(=O)c1ccc(Br)cc1>>OCc1ccc(Br)cc1",
    "CC(C)=O.CCNCC>>CCN(CC)C(C)C",
    "Clc1ccnc2ccccc12.Nc1ccccc1>>c1ccc(Nc2ccnc3ccccc23)cc1",
    "OCC1CC1>>O=CC1CC1",
    "C=CCc1ccccc1>>CCCc1ccccc1",
    "COc1ccc(Br)cc1>>Oc1ccc(Br)cc1",
)

_SUBJECTS = ("dogs", "keys", "doctors", "houses", "windows", "teachers", "boats", "letters")
_PLACES = ("near the river", "behind the old wall", "with the green door", "from the small town")
_ENDS = ("is very old .", "was there yesterday .", "is not here .")

AGREEMENT = tuple(
    (f"The {subject} {place} {end}".split(), 1, 2 + len(place.split()))
    for (subject, place), end in product(product(_SUBJECTS, _PLACES), _ENDS)
)
"""Words, the place of the subject, and that of a verb that does not agree with it."""

SAID = (
    "please close the window before dinner",
    "the old farmer sells fresh milk",
    "the teacher opened a heavy book",
    "winter mornings are often very cold",
)

UNSEEN_SAID = (
    "tonight the moon looks very large",
    "open the green bottle with care",
    "garden tools hang beside the kitchen",
    "people waited quietly for their dinner",
)
