"""The server: the Hub's inference API in front of a model.

`settings` has the limits, `requests` reads what is sent, `batching` brings images together, `service` answers,
`app` has the routes, `documentation` what stands on their page, and `server` runs it all until it is told to stop.
"""
