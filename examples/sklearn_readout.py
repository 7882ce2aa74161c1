"""What a layer has learnt from the bundled digits, as features for any classifier of scikit-learn."""

from sklearn.ensemble import RandomForestClassifier
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsClassifier

import eventsnn as es

model = es.models.digits()
data = {}
for part in ("train", "test"):
    images = es.io.load_images("digits", part, size=model.size)
    data[part] = model.encoder.encode(images.pixels, images.labels)
train, test = data["train"], data["test"]

net = es.Network([es.Conv(32, kernel=5, padding=2, threshold=9), es.Pool(2)], train.shape, seed=0)
es.fit(net, train, layer=0, rule=es.STDP(0.04, -0.03), competition=es.WTA(5, radius=2), epochs=3)  # without labels

classifiers = {
    "random forest": RandomForestClassifier(50, random_state=0),
    "5 nearest neighbours": KNeighborsClassifier(5),
    "naive Bayes": MultinomialNB(),
}
for feature in (es.Feature("latency"), es.Feature("latency", regions=(4, 4)), es.Feature("fired")):
    learnt_from, judged = es.features(net, train, feature), es.features(net, test, feature)
    for name, classifier in classifiers.items():
        right = classifier.fit(learnt_from, train.labels).score(judged, test.labels)
        print(f"{feature.kind}, {learnt_from.shape[1]} features, {name}: {right:.2%} of the held-out digits right")

# For another program: HDF5, read back with es.read_features or any HDF5 library (data/FORMAT.md).
es.write_features("test-features.h5", judged, test.labels)
assert (es.read_features("test-features.h5").features != judged).nnz == 0
