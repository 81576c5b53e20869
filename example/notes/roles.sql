-- roles.sql
create role notes_owner login password 'owner';
create role notes_app login password 'app';
create database notes owner notes_owner;
