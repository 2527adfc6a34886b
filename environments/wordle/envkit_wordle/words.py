"""The words that may be hidden: common English words of five letters, written down for this environment."""

WORDS = tuple(
    """
abide abode about above abuse actor acute adapt admit adopt adore adult after again agent agile agree ahead aisle
alarm album alert alien alike alive alley allow alloy alone along aloud alpha alter amaze amber amend ample amuse
angel anger angle angry ankle annoy apart apple apply apron arena argue arise armor aroma array arrow aside asset
atlas attic audio audit avoid awake award aware awful bacon badge badly baker banjo barge basic basin basis batch
beach beard beast begin being below bench berry birth bison black blade blame bland blank blast blaze bleak blend
bless blind blink block blond bloom blown blues bluff blunt blush board boast bonus boost booth bound boxer brain
brake brand brass brave bread break breed brick bride brief bring brink brisk broad broil broke brook broom broth
brown brush build built bulky bunch bunny burst cabin cable camel canal candy canoe cargo carol carry carve catch
cause cedar chain chair chalk champ chaos charm chart chase cheap cheat check cheek cheer chess chest chief child
chili chill chime choir chord chunk cider cigar civic civil claim clamp clash clasp class clean clear clerk click
cliff climb cling cloak clock close cloth cloud clown coach coast cobra cocoa comet comic coral couch cough could
count court cover crack craft crane crash crate crawl crazy cream creek creep crest crime crisp cross crowd crown
crude cruel crumb crush crust cubic curly curry curve cycle daily dairy daisy dance dealt debit debut decay decor
delay delta dense depth derby devil diary digit diner dirty ditch diver dizzy dodge doing donor donut doubt dough
dozen draft drain drama drank drawn dream dress dried drift drill drink drive drove drown drums dryer dusty eager
eagle early earth easel eaten elbow elder elect elite empty enemy enjoy enter entry envoy equal equip erase error
essay event every exact exist extra fable faint fairy faith false fancy fault feast fence ferry fetch fever fiber
field fiery fifth fifty fight final first flair flake flame flank flash flask fleet flesh float flock flood floor
flour fluid flute focus foggy force forge forty forum found frame fraud fresh fried frock front frost frown fruit
fully funny gauge ghost giant giddy glare glass gleam glide globe gloom glory glove going goose grace grade grain
grand grant grape graph grasp grass grate grave gravy great green greet grief grill grind groan groom group grove
growl grown guard guess guest guide guild habit happy hardy harsh haste hatch haunt haven hazel heart heavy hedge
hefty hello hence heron hinge hobby honey honor horse hotel hound house hover human humid humor hurry ideal image
index inner input irony issue ivory jazzy jelly jewel joint joker jolly judge juice juicy jumbo kayak kebab kneel
knife knock known label labor large laser later laugh layer learn lease least leave legal lemon level lever light
lilac limit linen liver llama local lodge lofty logic loose lover lower loyal lucky lunar lunch lyric magic major
manor maple march marry marsh match mayor medal media melon mercy merge merit merry metal meter midst might mimic
minor minty minus mirth mixed model moist money month moose moral motor motto mount mouse mouth movie muddy mural
music naive nasty naval nerve never newly night noble noise north notch novel nurse nylon oasis occur ocean offer
often olive onion onset opera orbit order organ other otter ought ounce outer owner ozone paint panda panel panic
pansy paper party pasta paste patch patio pause peace peach pearl pedal penny perch peril petal phase phone photo
piano piece pilot pinch pizza place plain plane plank plant plate plaza plead pluck plumb plump plush point polar
porch pouch pound power prank press price pride prime print prior prism prize proof proud prove proxy prune pulse
punch pupil puppy purse quack quail quake queen query quest quick quiet quilt quirk quite quota quote radar radio
rainy raise rally ranch range rapid raven razor reach react ready realm rebel refer reign relax relay reply rerun
rhyme rider ridge rifle right rigid rinse risky rival river roast robin robot rocky rodeo rogue roomy rough round
route royal rugby ruler rumor rural rusty salad salon salty sandy satin sauce sauna savor scale scare scarf scene
scent scoop scope score scout scrap screw sedan sense serve seven shade shady shake shame shape share shark sharp
sheep sheet shelf shell shift shine shiny shirt shock shore short shout shown shrub sight silky silly since siren
sixth sixty skate skill skirt skull slate sleep slice slide slope small smart smell smile smoke snack snail snake
sneak snowy sober solar solid solve sound south space spare spark speak spear speed spell spend spice spicy spike
spill spine spoke spoon sport spray squad squid stack staff stage stain stair stake stale stamp stand stark start
state steak steam steel steep steer stern stick stiff still sting stock stone stool store stork storm story stove
straw strip study style sugar suite sunny super surge swamp swarm sweat sweep sweet swift swing sword syrup table
taken tally tango taste teach teeth tempo tenor tenth thank theft their theme there thick thief thing think third
thorn those three throw thumb tidal tiger tight timer toast today token topic torch total touch tough towel tower
toxic trace track trade trail train trait tread treat trend trial tribe trick troop trout truck truly trunk trust
truth tulip tuner tutor twice twist uncle under union unite unity until upper upset urban usage usual valid value
valve vapor vault venue verse video vigor villa viola viral visit vital vivid vocal voice voter vowel wafer wagon
waist waltz waste watch water weary weave wedge weigh weird whale wheat wheel where which while white whole widow
width wince windy witty woman world worry worst worth would wound woven wrath wreck wrist write wrong yacht yearn
yeast yield young youth zebra zesty
""".split()
)
