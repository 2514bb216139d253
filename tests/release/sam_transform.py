"""Print what AWS makes of the SAM template on stdin, beside the template itself, as JSON. Runs with the AWS tools."""

import json
import sys
from types import SimpleNamespace

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

template = yaml_parse(sys.stdin.read())
packaged = yaml_parse(json.dumps(template))
# what `aws cloudformation package` does first
for resource in packaged["Resources"].values():
    if resource["Type"] == "AWS::Serverless::Function":
        resource["Properties"]["CodeUri"] = {"Bucket": "bundles", "Key": "lull.zip"}
managed_policies = SimpleNamespace(load=dict)
json.dump({"sam": template, "transformed": transform(packaged, {}, managed_policies)}, sys.stdout)
