-- Parents whose rows take their children along.
alter table public.notes
add constraint notes_folder foreign key (folder_id) references public.folders (id)
on delete cascade on update cascade,
add constraint notes_label foreign key (label_id) references public.labels (id)
on delete set null on update cascade;
